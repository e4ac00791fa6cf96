"""Everything at once: two relays in the lab, deployed over salt-ssh, and Delta Chat clients that talk over them."""
