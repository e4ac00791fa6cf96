"""What an operator runs from the checkout beside salt-ssh itself."""
