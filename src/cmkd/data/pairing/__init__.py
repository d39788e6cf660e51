"""From lists of captures to a manifest: matching by time and place, with a record of what found no partner."""
