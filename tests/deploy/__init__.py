"""Tests of the use of a student: prediction, export, serving, evaluation."""
