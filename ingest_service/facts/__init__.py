"""What follows from samples: pure functions, called again whenever late samples arrive."""
