"""What each group role may do, and giving it those rights again after migrations and swaps."""
