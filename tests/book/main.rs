//! The book says what is true: its commands are run and their output compared, its programs are compiled, its links
//! lead somewhere, and its lists of words are those of the compiler.
//!
//! What prints something else than the page says fails here. `JETC_BOOK=update cargo test --release --test book` writes what was
//! printed into the pages; look at the difference before you keep it.

#![cfg(all(feature = "cli", unix))]

mod console;
mod page;
mod words;

use page::{Block, Page};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the book, in the order of its table of contents.
fn book() -> Vec<Page> {
    let folder = root().join("docs/src");
    let summary = Page::read(&folder.join("SUMMARY.md"));
    let pages: Vec<Page> = summary.links.iter().map(|(link, _)| Page::read(&folder.join(link))).collect();
    assert!(pages.len() > 5);
    pages
}

/// The book and the README.
fn pages() -> Vec<Page> {
    let mut pages = book();
    pages.push(Page::read(&root().join("README.md")));
    pages
}

/// What `jetc check` says about a program, after its first line where it is right.
fn complaints(program: &str) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jet"), program).unwrap();
    let said = console::run("jetc check a.jet", folder.path());
    match said.last().map(String::as_str) {
        Some("a.jet: no errors") => Ok(()),
        _ => Err(said.join("\n")),
    }
}

#[test]
fn every_program_of_the_book_compiles_unless_it_is_shown_as_wrong() {
    let mut count = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|b| b.language == "jet") {
            let place = page.place(block.line);
            count += 1;
            match (complaints(&block.whole()), block.is("error")) {
                (Ok(()), false) => {}
                (Ok(()), true) => panic!("{place}: this program is shown as wrong, and it compiles"),
                (Err(said), false) => panic!("{place}: this program does not compile\n{said}"),
                (Err(_), true) => {
                    let name = block.file().unwrap_or_else(|| panic!("{place}: a wrong program needs file=NAME"));
                    let later = page.blocks.iter().filter(|b| b.language == "console" && b.line > block.line);
                    let shown = later.flat_map(|b| console::steps(&b.text)).any(|s| {
                        s.command.split(' ').any(|w| w == name) && s.expected.last().is_some_and(|l| l == "? 2")
                    });
                    assert!(shown, "{place}: no command of the page shows what is said about {name}");
                }
            }
        }
    }
    assert!(count > 20, "only {count} programs found");
}

#[test]
fn every_command_of_the_book_prints_what_the_page_says() {
    let update = std::env::var("JETC_BOOK").is_ok_and(|v| v == "update");
    let pages = pages();
    let run = |page: &Page| run_page(page, update);
    let results: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = pages.iter().map(|page| scope.spawn(move || run(page))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let count: usize = results.iter().map(|r| r.0).sum();
    let failures: Vec<String> = results.into_iter().flat_map(|r| r.1).collect();
    assert!(failures.is_empty(), "{}\n{} of {count} commands", failures.join("\n"), failures.len());
    assert!(count > 30, "only {count} commands found");
}

/// Runs the commands of a page in a folder of their own, beside the project's `examples` and `benches`, with the files that the page has shown by then.
/// The number of commands, and what differs.
fn run_page(page: &Page, update: bool) -> (usize, Vec<String>) {
    let folder = TempDir::new().unwrap();
    for name in ["examples", "benches"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let (mut count, mut failures, mut text) = (0, Vec::new(), page.text.clone());
    for block in &page.blocks {
        if let Some(name) = block.file() {
            fs::write(folder.path().join(name), block.whole()).unwrap();
        }
        if block.language != "console" {
            continue;
        }
        let mut printed = String::new();
        for step in console::steps(&block.text) {
            count += 1;
            let mut found = console::run(&step.command, folder.path());
            if console::agree(&step.expected, &found) {
                found = step.expected;
            } else if !update {
                let place = page.place(block.line);
                let (wanted, found) = (step.expected.join("\n"), found.join("\n"));
                failures.push(format!("{place}: {}\n--- the page\n{wanted}\n--- printed\n{found}\n", step.command));
            }
            printed += &format!("$ {}\n", step.command);
            printed.extend(found.iter().map(|line| format!("{line}\n")));
        }
        if printed != block.text {
            text = text.replacen(&block.text, &printed, 1);
        }
    }
    if update && text != page.text {
        fs::write(&page.path, text).unwrap();
    }
    (count, failures)
}

#[test]
fn every_link_and_picture_is_there() {
    let folder = root().join("docs/src");
    let mut reached = BTreeSet::new();
    let mut broken = Vec::new();
    for page in pages().into_iter().chain([Page::read(&folder.join("SUMMARY.md"))]) {
        let home = page.path.parent().unwrap().to_path_buf();
        for (link, line) in &page.links {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = if file.is_empty() { page.path.clone() } else { home.join(file) };
            let inside = target.canonicalize().is_ok_and(|t| home == root() || t.starts_with(&folder));
            let anchored = match anchor {
                Some(anchor) if inside => Page::read(&target).anchors.iter().any(|a| a == anchor),
                _ => true,
            };
            if !inside || !anchored {
                broken.push(format!("{}: {link}", page.place(*line)));
            }
            reached.extend(target.canonicalize());
        }
        // paths of the project in code style
        for (word, line) in &page.code {
            let known = ["examples/", "benches/", "src/", "tests/", "docs/", "grammar/", "kernels/"];
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if plain && known.iter().any(|k| word.starts_with(k)) && !root().join(word).exists() {
                broken.push(format!("{}: no such file: {word}", page.place(*line)));
            }
        }
    }
    for file in files(&folder) {
        if file.file_name().is_some_and(|n| n != "SUMMARY.md") && !reached.contains(&file.canonicalize().unwrap()) {
            broken.push(format!("{}: nothing links to it", file.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn the_help_of_every_command_is_in_the_book() {
    let page = Page::read(&root().join("docs/src/command-line.md"));
    let shown = |block: &Block| console::steps(&block.text).into_iter().map(|s| s.command).collect::<Vec<_>>();
    let shown: Vec<String> = page.blocks.iter().filter(|b| b.language == "console").flat_map(shown).collect();
    let help = console::run("jetc --help", root());
    let listed = help.iter().skip_while(|line| !line.starts_with("Commands:")).skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed.filter(|l| !l.starts_with("   ")).filter_map(|l| l.split_whitespace().next()).collect();
    assert!(names.contains(&"train") && names.len() > 8, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let command = format!("jetc {name} --help");
        assert!(shown.contains(&command), "docs/src/command-line.md does not show `{command}`");
    }
}
