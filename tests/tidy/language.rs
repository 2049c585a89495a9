//! Plain English: first lines with a main clause, and no words of a private dialect.

use std::path::PathBuf;

use crate::source::{code, files, none, read, root, shown};

/// A comment that begins with one of these has no main clause, unless it is a question.
const RELATIVES: [&str; 8] = ["What", "How", "Whether", "Who", "Whose", "Where", "Which", "Why"];

/// Words and phrases that no Kafka or ML engineer would say aloud, and what to say instead.
const DIALECT: [(&str, &str); 35] = [
    ("in passing", "transient"),
    ("taken in", "received, admitted"),
    ("takes in", "receives, admits"),
    ("take in", "receive, admit"),
    ("told", "reported, notified"),
    ("tell apart", "distinguish"),
    ("tells apart", "distinguishes"),
    ("anew", "again"),
    ("for ever", "indefinitely"),
    ("so many", "`n`, that many"),
    ("dear", "expensive"),
    ("dearer", "more expensive"),
    ("dearest", "most expensive, largest"),
    ("the road", "the path, the pipeline"),
    ("go on", "continue"),
    ("goes on", "continues"),
    ("gone on", "continued"),
    ("going on", "in progress"),
    ("went on", "continued"),
    ("owe", "depend on"),
    ("owes", "depends on"),
    ("owed", "due"),
    ("whoever", "the caller, a worker"),
    ("beside", "next to, besides"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("none where", "`None` if"),
    ("none when", "`None` if"),
    ("the processor", "the CPU"),
    ("a processor", "a CPU"),
    ("at the most", "at most"),
    ("put out", "fenced, stopped"),
    ("who gets", "name the actor"),
    ("somebody", "a person, another worker"),
];

#[test]
fn comments_begin_with_a_main_clause() {
    let mut faults = Vec::new();
    for file in code() {
        let text = read(&file);
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            let begins =
                !index.checked_sub(1).is_some_and(|before| lines[before].starts_with("//"));
            let Some(comment) = comment(line) else { continue };
            let is_relative = RELATIVES
                .iter()
                .any(|word| comment.strip_prefix(word).is_some_and(|rest| rest.starts_with(' ')));
            // Inside a paragraph a line may begin with the word by chance.
            let is_first = begins || comment_is_empty(lines[index - 1]);
            if is_relative && is_first && !is_question(&lines[index..]) {
                faults.push(format!("{}:{}: `{comment}`", shown(&file), index + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn no_text_uses_words_of_a_private_dialect() {
    let mut faults = Vec::new();
    for file in texts() {
        let text = read(&file);
        let words: Vec<(usize, String)> = (1..)
            .zip(text.lines())
            .flat_map(|(number, line)| words(line).map(move |word| (number, word)))
            .collect();
        for (phrase, instead) in DIALECT {
            let phrase: Vec<_> = phrase.split(' ').collect();
            for found in words.windows(phrase.len()) {
                let is_one_text = found[found.len() - 1].0 - found[0].0 <= 1;
                let found_words = found.iter().map(|(_, word)| word.as_str());
                if is_one_text && found_words.eq(phrase.iter().copied()) {
                    let phrase = phrase.join(" ");
                    faults.push(format!("{}:{}: `{phrase}`: {instead}", shown(&file), found[0].0));
                }
            }
        }
    }
    none(&faults);
}

/// Returns all texts that people read, except this check, which names the words.
fn texts() -> impl Iterator<Item = PathBuf> {
    let own = root().join("tests/tidy");
    let documents = ["ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "README", "SECURITY", "STYLE"]
        .map(|name| root().join(name).with_extension("md"));
    let recipes =
        ["Cargo.toml", "clippy.toml", "deny.toml", "docker-compose.yml", "justfile", ".ci/run"]
            .map(|name| root().join(name));
    code()
        .into_iter()
        .filter(move |path| !path.starts_with(&own))
        .chain(documents)
        .chain(recipes)
        .chain(files("docs", &["md"]))
        .chain(files("deploy", &["toml", "yml", "json"]))
        .chain(files("schemas", &["json"]))
        .chain(files("benches", &["md", "py"]))
        .chain(files("examples", &["md"]))
        .chain(files("tests/services", &["sh"]))
}

/// The words of a line in lower case; `_` separates words too, so that names are read.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|character: char| !character.is_alphanumeric() && character != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

fn comment_is_empty(line: &str) -> bool {
    comment(line) == Some("")
}

/// True if the first sentence of a comment ends with a question mark.
fn is_question(lines: &[&str]) -> bool {
    let text: Vec<_> = lines.iter().map_while(|line| comment(line)).collect();
    let text = text.join(" ");
    text.find(['.', '?', ':']).is_some_and(|end| text[end..].starts_with('?'))
}
