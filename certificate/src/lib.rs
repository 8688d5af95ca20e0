//! What an S/MIME certificate says
