"""Clinical guidelines as tables: one module each, every row with its source. docs/guidelines.md is made from them."""
