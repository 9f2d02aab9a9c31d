"""What `bench.fuzz` is made of: damaged bytes, generated documents, the parsers they are fed to, and the count."""
