"""Which mail passes: whose it is (`authentication`), and what it may hold (`rules`)."""
