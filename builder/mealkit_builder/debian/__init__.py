"""The base ``deb:SUITE``: a root file system assembled from Debian's packages, without root, dpkg or debootstrap."""
