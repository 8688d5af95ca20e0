//! Answers DNS from the published set
