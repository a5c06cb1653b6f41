"""What the chapters share: one module a topic, and `lab`, its instruments."""
