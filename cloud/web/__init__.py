"""The hub's one live page: it reads the overview and shows it. It decides nothing and changes nothing."""
