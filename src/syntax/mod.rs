//! Text to tree: tokens (`lexer`), grammar (`grammar/jet.lalrpop`), [`ast`], and back (`printer`).
//! This room does not know what any name means.

pub mod ast;
