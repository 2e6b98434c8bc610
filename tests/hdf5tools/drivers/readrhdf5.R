# rhdf5, of Bioconductor.

source(file.path(Sys.getenv("FEDARCHIVE_HDF5_DRIVERS"), "canon.R"))
suppressMessages(library(rhdf5))

attributes_of <- function(file, place) {
  read <- function() {
    found <- h5readAttributes(file, place, bit64conversion = "bit64")
    lapply(found, function(value) tried(function() formed(value)))
  }
  found <- tryCatch(read(), error = function(error) list("*" = failed(error)))
  named(found)
}

# A scalar comes without axes, as does what has one.
read_data <- function(file, place) formed(h5read(file, place, bit64conversion = "bit64"))

read_file <- function(path) {
  file <- H5Fopen(path, "H5F_ACC_RDONLY")
  found <- list("/" = list(data = NULL, attrs = attributes_of(file, "/")))
  listed <- h5ls(file, recursive = TRUE, all = FALSE)
  for (row in seq_len(nrow(listed))) {
    place <- paste(sub("/$", "", listed$group[row]), listed$name[row], sep = "/")
    data <- if (listed$otype[row] == "H5I_GROUP") NULL else tried(function() read_data(file, place))
    found[[place]] <- list(data = data, attrs = attributes_of(file, place))
  }
  found
}

arguments <- commandArgs(trailingOnly = TRUE)
if (length(arguments)) {
  say(read_file(arguments[1]))
} else {
  say(list(tool = unbox(as.character(packageVersion("rhdf5"))), hdf5 = unbox(Sys.getenv("FEDARCHIVE_HDF5_SYSTEM"))))
}
