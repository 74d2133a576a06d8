"""What an agent is: Manifest, Case, Outcome, and the means to find and run one."""
