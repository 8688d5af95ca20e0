//! From an address to DNS records: owner names, RDATA, signing, denial, zone text. Pure
