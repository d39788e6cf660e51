"""Training under Lightning: job, module, objective, loader, checkpoints, and `fit`. Import from its modules."""
