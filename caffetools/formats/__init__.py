"""Every byte on disk: text and binary protos, blobs, records, databases, HDF5, idx files, pictures.

Each module stands for one format and brings in its library (lmdb, plyvel, h5py, Pillow) only when it is used,
so that importing costs nothing. Whatever is wrong with a file is raised as one
:class:`~caffetools.glog.FatalError` that names it.
"""
