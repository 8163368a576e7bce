"""Who ends whom: processes that must not outlive, or be outlived by, others."""
