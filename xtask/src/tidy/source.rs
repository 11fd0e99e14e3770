//! Rules about one file: its length, its functions' length, and words that must not be in it.

use super::{Problem, has_extension};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Marks of unfinished work. The first is fine with an issue number behind it; the others never are. Split so
/// that this file does not hold them itself.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub(super) fn check(path: &Path, text: &str, unsafe_allowed: bool) -> Vec<Problem> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push((0, format!("{lines} lines; a file has at most {FILE_LINES_MAX}")));
    }
    found.extend(marks(text));
    if has_extension(path, "rs") {
        match syn::parse_file(text) {
            Ok(file) => found.extend(long_functions(&file)),
            Err(error) => found.push((error.span().start().line, format!("does not parse: {error}"))),
        }
        if let Ok(tokens) = text.parse::<TokenStream>() {
            found.extend(words(tokens, unsafe_allowed));
        }
    }
    found.into_iter().map(|(line, message)| Problem { path: path.to_owned(), line, message }).collect()
}

/// Marks of unfinished work without an issue number.
fn marks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (place, mark) in MARKS.iter().flat_map(|mark| line.match_indices(mark)) {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let rest = &line[place + mark.len()..];
            let whole = !line[..place].ends_with(is_word) && !rest.starts_with(is_word);
            if whole && !(mark == MARKS[0] && has_issue_number(rest)) {
                found.push((index + 1, format!("{mark} (only {}(#issue) may stay)", MARKS[0])));
            }
        }
    }
    found
}

/// `(#123)` at the start.
fn has_issue_number(text: &str) -> bool {
    text.strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'))
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// `unsafe` where it is not allowed and `allow` attributes anywhere, also inside macros.
fn words(tokens: TokenStream, unsafe_allowed: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open = vec![(tokens, false)];
    while let Some((tokens, in_attribute)) = open.pop() {
        let mut after_hash = false;
        for token in tokens {
            let line = token.span().start().line;
            let mut hash = false;
            match token {
                TokenTree::Ident(word) if word == "unsafe" && !unsafe_allowed => {
                    found.push((
                        line,
                        "unsafe: only netlink, dataplane, ebpf and pipeline/src/atomic.rs may".into(),
                    ));
                }
                TokenTree::Ident(word) if word == "allow" && in_attribute => {
                    found.push((line, "allow attribute: write #[expect(lint, reason = \"…\")]".into()));
                }
                TokenTree::Punct(punct) => {
                    hash = punct.as_char() == '#' || (after_hash && punct.as_char() == '!')
                }
                TokenTree::Group(group) => {
                    let attribute = after_hash && group.delimiter() == Delimiter::Bracket;
                    // Inside an attribute only `cfg_attr(…, allow(…))` nests, which is one too.
                    open.push((group.stream(), attribute || in_attribute));
                }
                _ => {}
            }
            after_hash = hash;
        }
    }
    found
}

fn long_functions(file: &syn::File) -> Vec<(usize, String)> {
    let mut lengths = Lengths { found: Vec::new() };
    lengths.visit_file(file);
    lengths.found
}

struct Lengths {
    found: Vec<(usize, String)>,
}

impl Lengths {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.brace_token.span.close().end().line + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let message =
                format!("fn {}: {lines} lines; a function has at most {FUNCTION_LINES_MAX}", signature.ident);
            self.found.push((first, message));
        }
    }
}

impl<'ast> Visit<'ast> for Lengths {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, unsafe_allowed: bool) -> Vec<(usize, String)> {
        let problems = check(Path::new("a.rs"), text, unsafe_allowed);
        problems.into_iter().map(|problem| (problem.line, problem.message)).collect()
    }

    #[test]
    fn clean_code_is_clean() {
        let text = "//! Says \"unsafe\" and \"allow\" in words.\nfn allow() { let _ = [allow]; }\n";
        assert_eq!(messages(text, false), []);
    }

    #[test]
    fn a_file_has_a_limit() {
        assert_eq!(messages(&"\n".repeat(FILE_LINES_MAX), false), []);
        assert_eq!(messages(&"\n".repeat(FILE_LINES_MAX + 1), false).len(), 1);
    }

    #[test]
    fn a_function_has_a_limit() {
        // Signature and closing brace count: two lines more than the body.
        let function = |body| format!("impl A {{\n    fn long() {{\n{}    }}\n}}\n", "\n".repeat(body));
        assert_eq!(messages(&function(FUNCTION_LINES_MAX - 2), false), []);
        let found = messages(&function(FUNCTION_LINES_MAX - 1), false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 2);
        assert!(found[0].1.starts_with("fn long: 71 lines"), "{found:?}");
    }

    #[test]
    fn unfinished_work_needs_an_issue() {
        let [todo, fixme, placeholder] = MARKS;
        assert_eq!(marks(&format!("// {todo}(#12): later\n// METHOD{todo}S {placeholder}{placeholder}")), []);
        for bad in [format!("// {todo}: later"), format!("// {todo}(#)"), format!("// {todo}(someone)")] {
            assert_eq!(marks(&bad).len(), 1, "{bad}");
        }
        assert_eq!(
            marks(&format!("\n// {fixme}(#12)\n# {placeholder}")).iter().map(|m| m.0).collect::<Vec<_>>(),
            [2, 3]
        );
    }

    #[test]
    fn unsafe_is_found_everywhere() {
        for bad in [
            "fn a() { unsafe { b() } }",
            "unsafe impl A for B {}",
            "m! { unsafe }",
            "#[unsafe(no_mangle)] fn a() {}",
        ] {
            assert_eq!(messages(bad, false).len(), 1, "{bad}");
            assert_eq!(messages(bad, true).len(), 0, "{bad}");
        }
    }

    #[test]
    fn allow_attributes_are_found() {
        for bad in [
            "#![allow(dead_code)]",
            "#[allow(dead_code)] fn a() {}",
            "#[cfg_attr(test, allow(dead_code))] fn a() {}",
        ] {
            assert_eq!(messages(bad, true).len(), 1, "{bad}");
        }
        assert_eq!(messages("#[expect(dead_code, reason = \"example\")] fn a() {}", true), []);
    }

    #[test]
    fn what_does_not_parse_is_a_problem() {
        assert_eq!(messages("fn (", false).len(), 1);
    }
}
