//! The texts of the authors' program, byte by byte: its words, its system text and its question.
//!
//! Source: `sjtuzzq/Dog-IQA`, commit `9eb4120` (MIT). The indentation is part of the prompt: it
//! comes from Python's multi-line strings.

use crate::method::standard_form::StandardForm;

/// Number of levels that the texts without words name.
const LEVELS_WITHOUT_WORDS: u8 = 7;

/// The two texts of a prompt.
pub(crate) struct ReleaseTexts {
    pub(crate) system: String,
    pub(crate) query: String,
}

/// Returns the words of the levels, from the worst to the best.
pub(crate) fn words(k: u8) -> Option<&'static [&'static str]> {
    match k {
        3 => Some(&["Poor", "Fair", "Excellent"]),
        5 => Some(&["Poor", "Bad", "Fair", "Good", "Excellent"]),
        7 => Some(&["Very Bad", "Poor", "Bad", "Fair", "Good", "Excellent", "Perfect"]),
        9 => Some(&NINE),
        _ => None,
    }
}

const NINE: [&str; 9] =
    ["Very Bad", "Awful", "Poor", "Bad", "Fair", "Good", "Very Good", "Excellent", "Perfect"];

/// Returns the texts for these words, or `None` for a form that the program cannot run, or not with
/// this number of levels. Only the form of words depends on the number of levels.
pub(crate) fn texts(form: StandardForm, words: &[String]) -> Option<ReleaseTexts> {
    let k = u8::try_from(words.len()).ok()?;
    let (system, query) = match form {
        StandardForm::Word => {
            let levels = words.iter().enumerate().rev();
            let lines: Vec<String> =
                levels.map(|(index, word)| format!("{}: {word}!", index + 1)).collect();
            let lines = lines.join("\n");
            (format!("{ASSISTANT}{STANDARD}\n{lines}\n{HIGHER}{STRICTLY}"), QUESTION.to_owned())
        }
        _ if k != LEVELS_WITHOUT_WORDS => return None,
        StandardForm::Number => (format!("{ASSISTANT}{STRICTLY}"), NUMBER_QUESTION.to_owned()),
        StandardForm::NumberDecimal => {
            (format!("{ASSISTANT}{DECIMAL}"), DECIMAL_QUESTION.to_owned())
        }
        StandardForm::WordOnly => {
            let words: Vec<String> = NINE.iter().rev().map(|word| format!("{word}!")).collect();
            let words = words.join("\n");
            (format!("{WORD_ONLY}\n{words}\n{WORD_ONLY_END}"), WORD_ONLY_QUESTION.to_owned())
        }
        StandardForm::Sentence => return None,
    };
    Some(ReleaseTexts { system, query })
}

const ASSISTANT: &str =
    "You are a helpful assistant to help me evaluate the quality of the image. ";
const STANDARD: &str = "You will be given standards about each quality level. The quality standard \
                        is list as follows:";
const HIGHER: &str =
    "\n                    The higher the image quality, the higher the score should be.";
const STRICTLY: &str = "\n                    Please strictly follow the USER's format, otherwise \
                        the result will be invalid.";
const QUESTION: &str = "Please evaluate the quality of the image and score in quality. Only tell \
                        me the number. Do not analysis the image.";
const NUMBER_QUESTION: &str = "please evaluate the quality of the image and score in \
                               [1,2,3,4,5,6,7]. Only tell me the number. Do not analysis the image.";
const DECIMAL: &str = "\n                    Your response must be a single number between 0 and \
                       100, inclusive, with one decimal place. \
                       \n                    Do not give any explanation or description of the \
                       image. \
                       \n                    Simply provide the numeric score as your response. Any \
                       additional text will be considered invalid.";
const DECIMAL_QUESTION: &str = "Please evaluate the quality of the image with a score from 0 to \
                                100, with one decimal place. Use a number between 0.0 and 100.0 to \
                                indicate your evaluation. For example, if you consider the image to \
                                be of very high quality, you might respond with \"95.3\". \
                                Conversely, if the image is of very poor quality, you might respond \
                                with \"5.8\". Your response should only be the score, without any \
                                other text.";
const WORD_ONLY: &str = "You are a helpful assistant designed to evaluate the quality of an image. \
                         \n            Your response must be one of the following descriptive words \
                         that best represents the quality of the image:\
                         \n            ";
const WORD_ONLY_END: &str = "\n            Do not give any explanation or description of the image. \
                             Simply provide the word that corresponds to your evaluation. Any \
                             additional text will be considered invalid.";
const WORD_ONLY_QUESTION: &str = "Please evaluate the quality of the image and respond with the \
                                  most appropriate word from the list above. Your response should \
                                  only be one word, without any other text.";
