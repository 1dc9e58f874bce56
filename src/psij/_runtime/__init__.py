"""What executors are built from: processes, commands, files, status reports, script contexts."""
