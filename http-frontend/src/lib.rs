//! Answers HTTP: look-ups, the admin API, metrics, one public page
