"""A candidate beside production: settings that are tried on live traffic, deliver nothing, and can be promoted."""
