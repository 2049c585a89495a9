//! The public data sets by name: their files, folders and sizes.

/// A data set with people's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataSet {
    /// KonIQ-10k (Hosu et al. 2020): photos from Flickr.
    Koniq10k,
    /// LIVE In the Wild Challenge (Ghadiyaram and Bovik 2016): photos of phones.
    Livec,
    /// SPAQ (Fang et al. 2020): photos of phones.
    Spaq,
    /// KADID-10k (Lin et al. 2019): 81 pictures with 25 distortions of 5 strengths.
    Kadid10k,
    /// AGIQA-3k (Li et al. 2023): generated images.
    Agiqa3k,
    /// A table of one's own.
    Csv,
}

impl DataSet {
    /// All data sets.
    pub const ALL: [Self; 6] =
        [Self::Koniq10k, Self::Livec, Self::Spaq, Self::Kadid10k, Self::Agiqa3k, Self::Csv];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Koniq10k => "koniq10k",
            Self::Livec => "livec",
            Self::Spaq => "spaq",
            Self::Kadid10k => "kadid10k",
            Self::Agiqa3k => "agiqa3k",
            Self::Csv => "csv",
        }
    }

    /// Finds a data set by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Returns the names of the label files, in groups: the first group of which all files exist is
    /// read. `csv` has none, because its file is named by the user.
    pub fn label_files(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Koniq10k => &[&["koniq10k_scores_and_distributions.csv"]],
            Self::Livec => &[&["AllImages_release.mat", "AllMOS_release.mat"]],
            Self::Spaq => {
                &[&["MOS and Image attribute scores.xlsx"], &["MOS and Image attribute scores.csv"]]
            }
            Self::Kadid10k => &[&["dmos.csv"]],
            Self::Agiqa3k => &[&["data.csv"]],
            Self::Csv => &[],
        }
    }

    /// Returns the folders of the images, the preferred one first. Without any of them, images are
    /// searched in the whole folder of the set.
    pub fn image_folders(self) -> &'static [&'static str] {
        match self {
            Self::Koniq10k => &["1024x768", "512x384"],
            Self::Livec => &["Images"],
            Self::Spaq => &["TestImage"],
            Self::Kadid10k => &["images"],
            Self::Agiqa3k | Self::Csv => &[],
        }
    }

    /// Returns the number of labels of the published set, or `None` for a table of one's own.
    pub fn published_labels(self) -> Option<usize> {
        match self {
            Self::Koniq10k => Some(10_073),
            Self::Livec => Some(1_169),
            Self::Spaq => Some(11_125),
            Self::Kadid10k => Some(10_125),
            Self::Agiqa3k => Some(2_982),
            Self::Csv => None,
        }
    }

    /// Returns the images with which the observers were trained. The paper leaves them out, the
    /// authors' program does not.
    pub fn training_images(self) -> &'static [&'static str] {
        match self {
            Self::Livec => &["t1.bmp", "t2.bmp", "t3.bmp", "t4.bmp", "t5.bmp", "t6.bmp", "t7.bmp"],
            _ => &[],
        }
    }
}
