"""What one client, one network or the whole machine may use up."""
