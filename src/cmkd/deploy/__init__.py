"""Put a trained student to work: recommend, predict, export, evaluate and serve it."""
