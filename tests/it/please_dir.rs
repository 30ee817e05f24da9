//! Promise: a Please directory cache is kept between its marks, whole entry by whole entry, nothing outside of it is
//! touched, and what it holds can be sent to a shared cache.

mod pushing;
mod sweeping;
mod tree;
