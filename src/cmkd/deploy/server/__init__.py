"""A student behind HTTP: one endpoint that predicts, limits on every request, health and metrics."""
