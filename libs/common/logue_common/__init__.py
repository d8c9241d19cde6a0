"""Wire contracts of Logue, and the plumbing that two or more services share. Nothing else."""
