"""Pairing of lists of captures by time and place into a manifest, with a record of unmatched captures."""
