//! `dogiqa ask` and `dogiqa models quantize` of the built binary, with a small random network and
//! the real vocabulary: its answers are words without meaning.

use std::path::Path;
use std::process::{Command, Output};

use crate::cli::{command, photo, text};
use crate::small_networks::checkpoint_with_real_vocabulary;

fn ask(model: &Path, arguments: &[&str]) -> Output {
    let mut command: Command = command(&["ask", "--model"]);
    command.arg(model).args(arguments).output().unwrap()
}

#[test]
fn ask_answers_for_each_image_and_repeats_its_answer() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241014");
    let (cat, coffee) = (photo("cat.jpg"), photo("coffee.jpg"));
    let answer = |images: &[&str]| {
        let question = ["--prompt", "What spoils it?", "--max-tokens", "5"];
        let output = ask(folder.path(), &[&question, images].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let alone = answer(&[&cat]);
    assert!(alone.trim().len() > 3, "{alone}");
    let both = answer(&[&cat, &coffee]);
    assert!(both.starts_with(&format!("== {cat}\n{alone}== {coffee}\n")), "{both}");
}

#[test]
fn ask_inserts_the_image_at_its_placeholder_and_only_once() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let cat = photo("cat.jpg");
    let answer = |arguments: &[&str]| {
        ask(folder.path(), &[&["--max-tokens", "4"], arguments, &[&cat]].concat())
    };
    let answers = [
        answer(&["--prompt", "Look: <|image|> What is it?"]),
        answer(&["--prompt", "What is it?", "--cut"]),
        answer(&["--prompt", "What is it?", "--system", "Be brief.", "--dtype", "bf16"]),
    ];
    for answer in answers {
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert!(!text(&answer.stdout).trim().is_empty());
    }
    let twice = answer(&["--prompt", "<|image|> or <|image|>?"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("once in a question"), "{}", text(&twice.stderr));
}

#[test]
fn ask_continues_after_a_bad_image_and_reports_missing_weights_once() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_240728");
    let bad = folder.path().join("bad.jpg");
    std::fs::write(&bad, "<html>").unwrap();
    let cat = photo("cat.jpg");
    let question = ["--prompt", "Why?", "--max-tokens", "2"];
    let output = ask(folder.path(), &[&question, &[bad.to_str().unwrap(), &cat][..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("[decode."), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&format!("== {cat}\n")));

    let output = ask(Path::new("no/such/model"), &[&question[..], &[&cat]].concat());
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("no/such/model").count(), 1, "{errors}");
}

#[test]
fn a_quantised_file_answers_without_its_original() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let output_folder = tempfile::tempdir().unwrap();
    let small = output_folder.path().join("small.gguf");
    let quantize = |output: &Path| {
        let mut command = command(&["models", "quantize", "--format", "q8-0", "--model"]);
        command.arg(folder.path()).arg("--output").arg(output).output().unwrap()
    };
    let output = quantize(&small);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("small.gguf: "));
    let answer = ask(&small, &["--prompt", "Why?", "--max-tokens", "3", &photo("cat.jpg")]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert!(!text(&answer.stdout).trim().is_empty());

    let output = quantize(&output_folder.path().join("small.bin"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("must end in `.gguf`"));
}
