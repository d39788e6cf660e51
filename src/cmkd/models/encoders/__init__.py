"""Encoders, one file each: the part of a model between its preprocessing and its classifier."""
