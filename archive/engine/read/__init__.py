"""From bytes to records: an archive opened, its arrays handed out, loaded or scanned, every byte checked."""
