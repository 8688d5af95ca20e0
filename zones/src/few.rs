//! A list that nearly always has one element, which then needs no allocation of its own and no second memory access.

use std::ops::Deref;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Few<T> {
    One(T),
    Several(Box<[T]>),
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(list: Vec<T>) -> Few<T> {
        match <[T; 1]>::try_from(list) {
            Ok([one]) => Few::One(one),
            Err(list) => Few::Several(list.into()),
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => std::slice::from_ref(one),
            Few::Several(several) => several,
        }
    }
}
