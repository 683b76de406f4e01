//! A page of the book, taken apart: fenced blocks in order, headings, links, code words, word lists.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block: ```` ```jet,file=a.jet,error ````
pub struct Block {
    /// The first word after the fence.
    pub language: String,
    /// The words after it: `error`, `file=a.jet`.
    attributes: Vec<String>,
    /// What stands between the fences.
    pub text: String,
    /// Line of the opening fence, from 1.
    pub line: usize,
}

impl Block {
    /// True if this word stands after the language.
    pub fn is(&self, word: &str) -> bool {
        self.attributes.iter().any(|a| a == word)
    }

    /// The name of the file that the block is.
    pub fn file(&self) -> Option<&str> {
        self.attributes.iter().find_map(|a| a.strip_prefix("file="))
    }

    /// The text with what the page hides (lines that begin with `~`).
    pub fn whole(&self) -> String {
        self.text.lines().map(|line| format!("{}\n", line.strip_prefix('~').unwrap_or(line))).collect()
    }
}

/// A list that the page claims to be complete: the words of the first column of the table after `<!-- words: NAME -->`.
pub struct WordList {
    pub name: String,
    pub words: Vec<String>,
    pub line: usize,
}

/// One Markdown file.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
    pub blocks: Vec<Block>,
    /// Anchors of headings, as mdBook makes them.
    pub anchors: Vec<String>,
    /// Targets of links and pictures, with their lines.
    pub links: Vec<(String, usize)>,
    /// Words in code style, with their lines.
    pub code: Vec<(String, usize)>,
    pub lists: Vec<WordList>,
}

impl Page {
    pub fn read(path: &Path) -> Page {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut page = Page {
            path: path.into(),
            blocks: Vec::new(),
            anchors: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
            lists: Vec::new(),
            text: String::new(),
        };
        page.take_apart(&text);
        page.text = text;
        page
    }

    fn take_apart(&mut self, text: &str) {
        let (mut block, mut heading): (Option<Block>, Option<String>) = (None, None);
        // the list that the next table is, and whether its first column is being read
        let (mut list, mut column): (Option<WordList>, Option<usize>) = (None, None);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = 1 + text[..range.start].matches('\n').count();
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let mut words = info.split(',').map(|word| word.trim().to_string());
                    let language = words.next().unwrap_or_default();
                    block = Some(Block { language, attributes: words.collect(), text: String::new(), line });
                }
                Event::End(TagEnd::CodeBlock) => self.blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => self.anchors.extend(heading.take().map(|h| anchor(&h))),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    self.links.push((dest_url.into_string(), line))
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let name = html.trim().strip_prefix("<!-- words:").and_then(|rest| rest.strip_suffix("-->"));
                    if let Some(name) = name {
                        list = Some(WordList { name: name.trim().into(), words: Vec::new(), line });
                    }
                }
                Event::Start(Tag::TableRow) => column = Some(0),
                Event::End(TagEnd::TableCell) => column = column.map(|n| n + 1),
                Event::End(TagEnd::Table) => self.lists.extend(list.take()),
                Event::Text(words) => {
                    if let Some(block) = &mut block {
                        block.text += &words;
                    } else if let Some(heading) = &mut heading {
                        *heading += &words;
                    }
                }
                Event::Code(word) => {
                    if let Some(heading) = &mut heading {
                        *heading += &word;
                    }
                    match &mut list {
                        Some(list) if column == Some(0) => list.words.push(word.to_string()),
                        _ => {}
                    }
                    self.code.push((word.into_string(), line));
                }
                _ => {}
            }
        }
        assert!(list.is_none(), "{}: a list of words without a table after it", self.path.display());
    }

    /// `src/tutorial.md:12`
    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// The anchor of a heading: letters, digits, `-` and `_` stay, blanks become `-`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}
