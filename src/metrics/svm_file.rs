//! Models in the text format of libSVM.

use std::collections::BTreeMap;

use crate::metrics::support_vectors::SupportVectors;

/// Maximum size of a model in bytes; the largest of the authors has 353 kB.
const BYTES_MAX: usize = 4 << 20;

/// Maximum number of vectors; the largest model of the authors has 774.
const VECTORS_MAX: usize = 1 << 16;

/// A model with radial basis functions.
pub(crate) struct SvmFile {
    header: BTreeMap<String, Vec<String>>,
    /// The coefficients of each vector.
    coefficients: Vec<Vec<f64>>,
    pub(crate) vectors: SupportVectors,
}

impl SvmFile {
    /// Reads a model with vectors of `features` values; absent values are zero.
    ///
    /// # Errors
    /// Fails with the reason if the text is damaged or has another kernel.
    pub(crate) fn parse(bytes: &[u8], features: usize) -> Result<Self, String> {
        let text = text_of(bytes, BYTES_MAX)?;
        let mut lines = text.lines();
        let mut header = BTreeMap::new();
        loop {
            let line = lines.next().ok_or("the line `SV` is missing")?;
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            match words.next() {
                Some(key) if key == "SV" => break,
                Some(key) => drop(header.insert(key, words.collect())),
                None => {}
            }
        }
        let mut file = Self {
            header,
            coefficients: Vec::new(),
            vectors: SupportVectors { gamma: 0.0, width: features, values: Vec::new() },
        };
        if file.word("kernel_type")? != "rbf" {
            return Err(format!("the kernel is `{}`, not `rbf`", file.word("kernel_type")?));
        }
        let [gamma] = file.numbers("gamma")?[..] else {
            return Err("`gamma` must be one number".to_owned());
        };
        if gamma <= 0.0 {
            return Err(format!("`gamma` is {gamma}, it must be above zero"));
        }
        file.vectors.gamma = gamma;
        for line in lines.filter(|line| !line.trim().is_empty()) {
            file.add_vector(line)
                .map_err(|reason| format!("vector {}: {reason}", file.coefficients.len() + 1))?;
        }
        let total = file.counts("total_sv")?;
        if total != [file.coefficients.len()] || total == [0] {
            return Err(format!(
                "{} vectors were found, `total_sv` is {total:?}",
                file.coefficients.len()
            ));
        }
        Ok(file)
    }

    /// Checks the kind of model.
    ///
    /// # Errors
    /// Fails if it is none of `kinds`.
    pub(crate) fn expect_type(&self, kinds: &[&str]) -> Result<(), String> {
        let found = self.word("svm_type")?;
        if kinds.contains(&found) {
            return Ok(());
        }
        Err(format!("the model is `{found}`, not `{}`", kinds.join("` or `")))
    }

    /// Returns the numbers of a line of the header.
    ///
    /// # Errors
    /// Fails if the line is missing or a number is not finite.
    pub(crate) fn numbers(&self, key: &str) -> Result<Vec<f64>, String> {
        self.words(key)?.iter().map(|word| number(word)).collect()
    }

    /// Returns the whole numbers of a line of the header.
    ///
    /// # Errors
    /// Fails if the line is missing or has another number.
    pub(crate) fn counts(&self, key: &str) -> Result<Vec<usize>, String> {
        let count = |word: &String| {
            word.parse().map_err(|_| format!("`{word}` in `{key}` is no whole number"))
        };
        self.words(key)?.iter().map(count).collect()
    }

    /// Returns the coefficients of each vector.
    ///
    /// # Errors
    /// Fails if a vector has another number of coefficients than `each`.
    pub(crate) fn coefficients(&self, each: usize) -> Result<Vec<Vec<f64>>, String> {
        match self.coefficients.iter().position(|coefficients| coefficients.len() != each) {
            None => Ok(self.coefficients.clone()),
            Some(vector) => Err(format!("vector {}: not {each} coefficients", vector + 1)),
        }
    }

    fn word(&self, key: &str) -> Result<&str, String> {
        match self.words(key)? {
            [word] => Ok(word),
            words => Err(format!("`{key}` has {} words, not one", words.len())),
        }
    }

    fn words(&self, key: &str) -> Result<&[String], String> {
        let words = self.header.get(key).ok_or_else(|| format!("the line `{key}` is missing"))?;
        Ok(words)
    }

    /// Adds a vector: its coefficients, and `index:value` for the values that are not zero.
    fn add_vector(&mut self, line: &str) -> Result<(), String> {
        let mut coefficients = Vec::new();
        let mut vector = vec![0.0; self.vectors.width];
        for word in line.split_ascii_whitespace() {
            let Some((index, value)) = word.split_once(':') else {
                coefficients.push(number(word)?);
                continue;
            };
            *feature(&mut vector, index)? = number(value)?;
        }
        if self.coefficients.len() == VECTORS_MAX {
            return Err(format!("more than {VECTORS_MAX} vectors"));
        }
        self.coefficients.push(coefficients);
        self.vectors.values.append(&mut vector);
        Ok(())
    }
}

/// Returns the text of a file of limited size.
pub(crate) fn text_of(bytes: &[u8], bytes_max: usize) -> Result<&str, String> {
    if bytes.len() > bytes_max {
        return Err(format!("the file has {} bytes, the limit is {bytes_max}", bytes.len()));
    }
    std::str::from_utf8(bytes).map_err(|error| format!("not a text file: {error}"))
}

/// Returns the entry of a feature, which is numbered from 1.
pub(crate) fn feature<'a, T>(entries: &'a mut [T], index: &str) -> Result<&'a mut T, String> {
    let features = entries.len();
    let position = index.parse::<usize>().ok().and_then(|index| index.checked_sub(1));
    position
        .and_then(|position| entries.get_mut(position))
        .ok_or_else(|| format!("there is no feature `{index}`, only 1 to {features}"))
}

/// Returns a finite number.
pub(crate) fn number(word: &str) -> Result<f64, String> {
    let number = word.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("`{word}` is no number"))
}
