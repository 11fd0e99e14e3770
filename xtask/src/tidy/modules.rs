//! No orphans: every Rust file of a package is reached by `mod` (or `include!`) from one of its targets.
//!
//! A file that nobody declares is never compiled, and its tests never run.

use super::packages::Package;
use super::{Problem, has_extension};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn check(root: &Path, package: &Package, files: &[PathBuf]) -> Result<Vec<Problem>> {
    let mut reached = BTreeSet::new();
    for target in &package.roots {
        reach(target, &mut reached)?;
    }
    Ok(files
        .iter()
        .filter(|path| has_extension(path, "rs") && path.starts_with(&package.directory))
        .filter(|path| !reached.contains(*path))
        .map(|path| Problem {
            path: path.strip_prefix(root).unwrap_or(path).to_owned(),
            line: 0,
            message: "orphan: no `mod` leads to this file".into(),
        })
        .collect())
}

/// A file to read, and where its child modules lie.
struct Open {
    file: PathBuf,
    children: PathBuf,
}

fn reach(target: &Path, reached: &mut BTreeSet<PathBuf>) -> Result<()> {
    let folder = target.parent().context("a target lies in no directory")?;
    let mut open = vec![Open { file: target.to_owned(), children: folder.to_owned() }];
    while let Some(Open { file, children }) = open.pop() {
        if !file.is_file() || !reached.insert(file.clone()) {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        // A file that does not parse is reported by the rules about its text.
        if let Ok(syntax) = syn::parse_file(&text) {
            let folder = file.parent().context("a file lies in no directory")?;
            visit(&syntax.items, folder, &children, &mut open);
        }
    }
    Ok(())
}

/// Collects the files that `items` declare. `folder`: of the file; `children`: of its modules.
fn visit(items: &[syn::Item], folder: &Path, children: &Path, open: &mut Vec<Open>) {
    let mut levels = vec![(items, children.to_owned())];
    while let Some((items, children)) = levels.pop() {
        for item in items {
            match item {
                syn::Item::Mod(module) => match &module.content {
                    Some((_, inner)) => levels.push((inner, children.join(module.ident.to_string()))),
                    None => open.extend(candidates(module, folder, &children)),
                },
                syn::Item::Macro(call) if call.mac.path.is_ident("include") => {
                    if let Ok(name) = call.mac.parse_body::<syn::LitStr>() {
                        let file = folder.join(name.value());
                        open.push(Open { file, children: children.clone() });
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where the file of `mod name;` may lie.
fn candidates(module: &syn::ItemMod, folder: &Path, children: &Path) -> Vec<Open> {
    let name = module.ident.to_string();
    if let Some(path) = path_attribute(module) {
        let file = folder.join(path);
        let children = file.parent().unwrap_or(folder).to_owned();
        return vec![Open { file, children }];
    }
    let below = children.join(&name);
    vec![
        Open { file: children.join(format!("{name}.rs")), children: below.clone() },
        Open { file: below.join("mod.rs"), children: below },
    ]
}

/// The value of `#[path = "…"]`.
fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    module.attrs.iter().find(|attribute| attribute.path().is_ident("path")).and_then(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
        Some(text.value())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `files` (path, text) as a package and returns the orphans found.
    fn orphans(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let package = Package {
            name: "example".into(),
            directory: folder.path().into(),
            roots: vec![folder.path().join("src/lib.rs")],
            uses: Vec::new(),
        };
        let problems = check(folder.path(), &package, &paths).unwrap();
        problems.into_iter().map(|problem| problem.path.display().to_string()).collect()
    }

    #[test]
    fn declared_modules_are_no_orphans() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod inline { mod c; } #[path = \"odd/name.rs\"] mod d;"),
            ("src/a.rs", "mod below;"),
            ("src/a/below.rs", ""),
            ("src/b/mod.rs", "#[cfg(test)] mod tests;"),
            ("src/b/tests.rs", "include!(\"data.rs\");"),
            ("src/b/data.rs", ""),
            ("src/inline/c.rs", ""),
            ("src/odd/name.rs", ""),
        ];
        assert_eq!(orphans(&files), Vec::<String>::new());
    }

    #[test]
    fn a_file_nobody_declares_is_an_orphan() {
        let files = [("src/lib.rs", "mod a;"), ("src/a.rs", ""), ("src/lost.rs", ""), ("tests/lost.rs", "")];
        assert_eq!(orphans(&files), ["src/lost.rs", "tests/lost.rs"]);
    }
}
