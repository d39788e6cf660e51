"""Safe readers of published file formats: archives, IDX, fixed-size records, rasters, sound, folders by class."""
