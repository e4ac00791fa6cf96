"""What several tests share: clients, servers, messages, other programs and waiting."""
