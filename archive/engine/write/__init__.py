"""From records to bytes: inputs read, addresses planned, arrays streamed, the file published."""
