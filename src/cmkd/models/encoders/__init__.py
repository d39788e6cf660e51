"""Encoders, one file each: what a model puts between its preprocessing and its classifier."""
