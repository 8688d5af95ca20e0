//! [`Query`] and [`Segment`]: what a request says in its target, read with refusals that are problem documents.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::problem::Problem;

/// The parameters of a query, decoded, in their order.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The value of a parameter that may be there once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Problem::bad_request("bad-query", format!("{name} is given more than once"))),
            (value, None) => Ok(value),
        }
    }

    /// The values of a parameter that may be repeated.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true` or `false`; false when absent.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::bad_request("bad-query", format!("{name} is true or false"))),
        }
    }

    /// Refuses parameters of other names. For requests that change something: a misspelt `dry_run` must not publish.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        if self.0.iter().all(|(key, _)| names.contains(&key.as_str())) {
            return Ok(());
        }
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Problem::bad_request("bad-query", format!("a query parameter is not known; here there are: {known}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query, Problem> {
        let query = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query.map(|pairs| Query(pairs.0)).map_err(|_| Problem::bad_request("bad-query", "the query cannot be read"))
    }
}

/// The one variable segment of a route's path, percent-decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|segment| Segment(segment.0))
            .map_err(|_| Problem::bad_request("bad-path", "the path is not percent-encoded UTF-8"))
    }
}
