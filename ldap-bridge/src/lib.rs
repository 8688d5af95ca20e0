//! Answers LDAP from the published set
