"""The events of a whole tenant: filters, pages, and streams whose subscribers share one reader of the log."""
