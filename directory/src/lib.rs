//! The certificate store, its numbered log, and the published set that every view reads
