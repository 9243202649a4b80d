"""suite.toml -> Suite -> Case. Reads files and checks them; starts nothing."""
