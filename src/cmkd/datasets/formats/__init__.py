"""Published file formats, read safely: archives, IDX, equal records, rasters, sound, folders of classes."""
