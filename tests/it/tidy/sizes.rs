//! Files and functions that fit in a head.

use proc_macro2::{Delimiter, TokenTree};

use super::{Complaint, File, group, ident, is_punct};

/// Lines of a file before its tests.
const FILE_LINES: usize = 400;

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

pub(super) fn check(file: &File) -> Vec<Complaint> {
    let tokens = file.tokens();
    let lines = tests_begin(&tokens).map_or(file.text.lines().count(), |line| line - 1);
    let mut complaints = Vec::new();
    if lines > FILE_LINES {
        complaints.push(file.complaint(FILE_LINES + 1, format!("a file of {lines} lines; {FILE_LINES} are enough")));
    }
    functions(&tokens, &mut |name, first, last| {
        let lines = last + 1 - first;
        if lines > FUNCTION_LINES {
            complaints.push(file.complaint(first, format!("`{name}` has {lines} lines; {FUNCTION_LINES} are enough")));
        }
    });
    complaints
}

/// The line of the first `#[cfg(test)]` that stands before a module.
fn tests_begin(tokens: &[TokenTree]) -> Option<usize> {
    let is_attribute = |at: usize| is_punct(tokens.get(at), '#') && group(tokens.get(at + 1), Delimiter::Bracket).is_some();
    let is_test = |at: usize| is_attribute(at) && tokens[at + 1].to_string().replace(' ', "") == "[cfg(test)]";
    let stands_before_module = |mut at: usize| {
        while is_attribute(at) {
            at += 2;
        }
        ident(tokens.get(at)).is_some_and(|ident| ident == "mod")
    };
    (0..tokens.len()).find(|&at| is_test(at) && stands_before_module(at)).map(|at| tokens[at].span().start().line)
}

/// Names every function with a body, with its first and last line; nested ones and those inside macros too.
fn functions(tokens: &[TokenTree], see: &mut impl FnMut(&str, usize, usize)) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(inner) = token {
            functions(&inner.stream().into_iter().collect::<Vec<_>>(), see);
        }
        let is_function = ident(Some(token)).is_some_and(|ident| ident == "fn");
        let Some(name) = ident(tokens.get(at + 1)).filter(|_| is_function) else { continue };
        let rest = tokens[at..].iter().take_while(|token| !is_punct(Some(token), ';'));
        let body = rest.into_iter().find(|token| group(Some(token), Delimiter::Brace).is_some());
        if let Some(body) = body {
            see(&name.to_string(), token.span().start().line, body.span().end().line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        check(&File::new("src/cache/mod.rs", text)).into_iter().map(|complaint| complaint.what).collect()
    }

    #[test]
    fn a_file_may_have_400_lines_and_its_tests_as_many_more() {
        let constants = |count: usize| "const A: u8 = 1;\n".repeat(count);
        assert!(faults(&constants(400)).is_empty());
        assert_eq!(faults(&constants(401)), ["a file of 401 lines; 400 are enough"]);
        let with_tests = |count: usize, attribute: &str| format!("{}{attribute} mod tests {{\n{}}}", constants(count), constants(300));
        assert!(faults(&with_tests(400, "#[cfg(test)]")).is_empty());
        assert!(faults(&with_tests(400, "#[cfg( test )] #[allow(unused)]")).is_empty());
        assert_eq!(faults(&with_tests(401, "#[cfg(test)]")).len(), 1);
        assert_eq!(faults(&with_tests(200, "#[cfg(unix)]")).len(), 1);
    }

    #[test]
    fn a_function_may_have_70_lines_wherever_it_stands() {
        let function = |lines: usize| format!("fn long() -> u8\n{{\n{}1 }}", "\n".repeat(lines - 3));
        assert!(faults(&function(70)).is_empty());
        assert_eq!(faults(&function(71)), ["`long` has 71 lines; 70 are enough"]);
        for outer in ["impl A { FN }", "trait A { fn short(&self); FN }", "mod a { const A: () = { FN }; }", "proptest! { FN }"] {
            assert_eq!(faults(&outer.replace("FN", &function(71))).len(), 1, "{outer}");
        }
    }
}
