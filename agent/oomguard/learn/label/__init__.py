"""From runs to what is learned from: each sample graded by how near a kill is, and the features the device sees."""
