# hdf5r, of CRAN.

source(file.path(Sys.getenv("FEDARCHIVE_HDF5_DRIVERS"), "canon.R"))
suppressMessages(library(hdf5r))

is_null <- function(space) as.character(space$get_simple_extent_type()) == "H5S_NULL"

held <- function(item, read) {
  space <- item$get_space()
  if (is_null(space)) return(formed(NULL))
  value <- read()
  shape <- if (is.null(space$dims)) numeric(0) else rev(space$dims)
  formed(value, shape)
}

attributes_of <- function(item) {
  names <- list.attributes(item)
  found <- lapply(names, function(name) {
    tried(function() {
      attribute <- item$attr_open(name)
      if (attribute$get_storage_size() == 0) return(held(attribute, attribute$read))
      value <- attribute$read()
      # R gives a list of several values no axes; only the space tells one value from a list of one
      if (is.null(dim(value)) && !is.list(value) && length(value) > 1) return(formed(value, length(value)))
      held(attribute, function() value)
    })
  })
  names(found) <- names
  named(found)
}

walk <- function(group, path) {
  found <- list()
  for (name in names(group)) {
    place <- paste(path, name, sep = "/")
    item <- group$open(name)
    is_group <- inherits(item, "H5Group")
    data <- if (is_group) NULL else tried(function() held(item, function() item$read(drop = FALSE)))
    found[[place]] <- list(data = data, attrs = attributes_of(item))
    if (is_group) found <- c(found, walk(item, place))
    item$close()
  }
  found
}

read_file <- function(path) {
  file <- H5File$new(path, "r")
  c(list("/" = list(data = NULL, attrs = attributes_of(file))), walk(file, ""))
}

arguments <- commandArgs(trailingOnly = TRUE)
if (length(arguments)) {
  say(read_file(arguments[1]))
} else {
  say(list(tool = unbox(as.character(packageVersion("hdf5r"))), hdf5 = unbox(Sys.getenv("FEDARCHIVE_HDF5_SYSTEM"))))
}
