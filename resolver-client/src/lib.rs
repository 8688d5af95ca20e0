//! From an address to a verdict a mail gateway can act on
