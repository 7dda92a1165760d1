"""The approaches, one file each: what a user sets, what cannot work, and what it takes to run."""
