"""The local executor and what it is made of, beyond what the contract suite says of every executor."""
